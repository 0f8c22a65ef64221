"""Spreadsheets of rows."""

import io
from typing import Any

import openpyxl


def workbook(**sheets: list[list[Any]]) -> bytes:
    """Return an xlsx file with a sheet of each name."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()
