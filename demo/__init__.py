"""The web app that compares base and trained checkpoints."""

if __name__ != "gpg_vl.demo":
    raise ImportError(f"{__name__!r} is part of gpg-vl; import it as 'gpg_vl.demo'")
