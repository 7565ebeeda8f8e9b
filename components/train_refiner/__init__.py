"""The train_refiner stage."""
