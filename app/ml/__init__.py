"""The library under the service: tables in, trained torch modules out; nothing of HTTP or SQL."""
