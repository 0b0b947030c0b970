"""`python -m gpg_vl`, for launchers such as `accelerate launch -m gpg_vl train …`."""

from gpg_vl.cli import main

if __name__ == "__main__":
    main()
