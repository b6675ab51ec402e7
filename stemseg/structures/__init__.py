"""The few small types that cross the borders between rooms: clips and their targets, network outputs, tracks, RLE masks."""
