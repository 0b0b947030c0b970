"""What the tests of several processes run in each of them: `train` from a YAML file."""

import sys

import torch

from gpg_vl.config import TrainConfig
from gpg_vl.options import load_config
from gpg_vl.train import train

if __name__ == "__main__":
    torch.set_num_threads(1)
    train(load_config(TrainConfig, ["--config", sys.argv[1]]))
