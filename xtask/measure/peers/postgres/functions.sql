-- Times are nanoseconds of CLOCK_MONOTONIC; an array has one element for each sample.

-- One idle worker at a time, from the registration to its first line and to the word that it runs,
-- and from the request to end to the word that it has ended.
CREATE FUNCTION start_stop(samples int,
    OUT first float8[], OUT started float8[], OUT stopped float8[])
AS 'bgwbench', 'bgwbench_start_stop' LANGUAGE C STRICT;

-- Workers that exit at once, some at a time; how many a second.
CREATE FUNCTION churn(workers int, in_flight int) RETURNS float8
AS 'bgwbench', 'bgwbench_churn' LANGUAGE C STRICT;

-- What one question for a live worker's status takes, each sample the mean of 1000. With `beside`: while
-- another session is in ask_beside(), which then returns.
CREATE FUNCTION status(samples int, beside bool) RETURNS float8[]
AS 'bgwbench', 'bgwbench_status' LANGUAGE C STRICT;
CREATE FUNCTION ask_beside() RETURNS void
AS 'bgwbench', 'bgwbench_ask_beside' LANGUAGE C STRICT;

-- Starts idle workers, which stay until this session's release(); how long either takes.
CREATE FUNCTION hold(workers int) RETURNS float8
AS 'bgwbench', 'bgwbench_hold' LANGUAGE C STRICT;
CREATE FUNCTION release() RETURNS float8
AS 'bgwbench', 'bgwbench_release' LANGUAGE C STRICT;
