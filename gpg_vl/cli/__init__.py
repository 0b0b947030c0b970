"""The command line: parse words, call the rooms below, print what they return; start processes.

Words come in, text and exit codes go out. Nothing is computed here.
"""
