"""Images in columns of tables: what Parquet files and Arrow streams have in common."""
