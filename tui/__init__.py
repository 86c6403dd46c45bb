"""The terminal face. It sees the API client, the folded cluster state and the errors, nothing below."""
