"""Vector search behind one interface: SQLite and faiss, or Milvus."""
