"""What agents use: their files are read as they grow, each call is priced and booked once."""
