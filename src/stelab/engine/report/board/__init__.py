"""A study as TensorBoard shows it: a folder of links and event files."""
