"""What a run is to be, found from the data, a teacher, this machine and how long there is."""
