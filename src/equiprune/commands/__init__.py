"""What the commands do beside calling the library: their options, limits and what they print."""
