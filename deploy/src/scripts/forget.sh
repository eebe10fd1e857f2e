# Parameters: scratch. Throws the layer away.
rm -rf "$scratch"
