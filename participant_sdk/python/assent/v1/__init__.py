"""The messages and stubs of the package assent.v1; made by `generate`, never edited."""
