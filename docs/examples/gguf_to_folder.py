"""Turn a GGUF file into a folder that `from_pretrained`, and so `gpg-vl`, reads.

    python docs/examples/gguf_to_folder.py FOLDER FILE.gguf OUT

Needs the package `gguf`. Weights are dequantised to fp32.
"""

import argparse

from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(folder: str, file: str, out: str) -> None:
    """Read `folder/file` with transformers and save model and tokenizer in `out`."""
    quantised = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype="float32")
    config = quantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # the weights are plain fp32 by now, and only so can be saved
    model = AutoModelForCausalLM.from_config(config, dtype="float32")
    model.load_state_dict(quantised.state_dict())
    model.generation_config = quantised.generation_config
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="that the file is in")
    parser.add_argument("file", help="a .gguf")
    parser.add_argument("out", help="folder to write")
    convert(**vars(parser.parse_args()))
