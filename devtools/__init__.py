"""What the developers of this project use beside the program itself."""
