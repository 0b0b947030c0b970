"""What training changed, as one page.

A run's folder comes in; `report.html` with its curves, tables and sample answers goes out.
"""
