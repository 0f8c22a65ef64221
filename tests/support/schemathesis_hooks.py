"""What Schemathesis does not know by itself: how a file of JSON lines is sent."""

import schemathesis

schemathesis.serializer.alias("application/x-ndjson", "text/plain")
