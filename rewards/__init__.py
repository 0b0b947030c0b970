"""Built-in reward plug-ins, one file each; found through the entry-point group `gpg_vl.rewards`."""

if __name__ != "gpg_vl.rewards":
    raise ImportError(f"{__name__!r} is part of gpg-vl; import it as 'gpg_vl.rewards'")
