"""What any long program needs: processes, signals, profiling, progress, whole files.

Nothing here knows of models or questions.
"""
