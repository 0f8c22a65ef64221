"""How people write numbers, dates and gaps: recognised in a column's distinct cells, and read.

A notation is found by all cells of a column; where they leave two readings open, the file's other
columns may decide. It is kept with a model, which reads what it predicts in the same way.
"""
