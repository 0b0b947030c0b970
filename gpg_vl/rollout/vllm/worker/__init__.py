"""What runs inside vLLM's processes. They may have another environment, so these files import nothing of
gpg-vl, and stand on the path by themselves: the folder is all that a server needs of the project."""
