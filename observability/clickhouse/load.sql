-- Loads a lake that lies in the server's user_files under `lake`. Load an hour once; one that an export wrote anew
-- replaces its rows by their keys.

INSERT INTO events SELECT * FROM file('lake/table=events/date=*/hour=*/part-*.parquet', Parquet) SETTINGS use_hive_partitioning = 0;
INSERT INTO items SELECT * FROM file('lake/table=items/date=*/hour=*/part-*.parquet', Parquet) SETTINGS use_hive_partitioning = 0;
INSERT INTO users SELECT * FROM file('lake/table=users/date=*/hour=*/part-*.parquet', Parquet) SETTINGS use_hive_partitioning = 0;
INSERT INTO impressions SELECT * FROM file('lake/table=impressions/date=*/hour=*/part-*.parquet', Parquet) SETTINGS use_hive_partitioning = 0;
INSERT INTO training SELECT * FROM file('lake/table=training/date=*/hour=*/part-*.parquet', Parquet) SETTINGS use_hive_partitioning = 0;
