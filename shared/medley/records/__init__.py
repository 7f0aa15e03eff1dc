"""What is asked for, sent and kept, as frozen records: jobs and their options, batches, results."""
