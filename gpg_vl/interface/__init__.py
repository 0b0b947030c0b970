"""The Python interface: what `import gpg_vl` offers, in the terms of Python instead of files and options."""
