"""Converters into the prepared layout, one file each; entry-point group `gpg_vl.datasets`."""

if __name__ != "gpg_vl.data_prep":
    raise ImportError(f"{__name__!r} is part of gpg-vl; import it as 'gpg_vl.data_prep'")
