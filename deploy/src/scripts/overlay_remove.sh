# Parameters: scratch. Removes the overlay.
rm -rf "$scratch"
