"""The few small types that cross the borders between rooms: clips, network outputs, tracks, annotations, RLE masks."""
