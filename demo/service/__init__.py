"""Behind the pages: models that answer, prepared sets and runs that are read, answers that are judged."""
