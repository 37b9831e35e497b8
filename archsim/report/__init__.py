"""What a run leaves behind: terminal tables, files, and one token explained."""
