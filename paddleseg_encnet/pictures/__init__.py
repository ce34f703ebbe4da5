"""How class ids become pictures, and pictures a page."""
