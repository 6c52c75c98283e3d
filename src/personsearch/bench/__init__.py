"""The papers' tables run again, on their data or on synthetic people: what is run, what it
measured, what it says.
"""
