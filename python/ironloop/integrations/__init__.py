"""What other programs can be pointed at to run on ironloop, where a loop factory is not enough.

One module for each program, imported by that program only: nothing here is imported by ironloop, and no module imports
more than the program that it is for. docs/integrations.md has the lines to write.
"""
