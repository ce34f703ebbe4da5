"""Images, folders and videos, predicted and written."""
