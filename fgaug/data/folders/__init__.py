"""Folders of images: their layout, companions such as masks, and files left unread."""
