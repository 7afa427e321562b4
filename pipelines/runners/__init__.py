"""Where the compiled pipeline runs. Only this folder and the settings know which place it is."""
