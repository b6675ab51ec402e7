"""Small networks, datasets, trees and runs that several tests share."""
