/*
 * bgwbench: what PostgreSQL's own dynamic background workers take, measured from inside a backend by
 * the steps with which the report measures ours.
 *
 * Must be in shared_preload_libraries. The postmaster then has the library already, so that a worker
 * pays for no dlopen(), and workers stamp their first line in a shared array: PostgreSQL's best case.
 */
#include "postgres.h"

#include <signal.h>
#include <time.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/array.h"
#include "utils/memutils.h"

#if PG_VERSION_NUM < 150000
#error "bgwbench needs PostgreSQL 15 or later"
#endif

PG_MODULE_MAGIC;

/* More than there are workers at a time: a cell is reused only after its worker has stamped it. */
#define CELLS 4096
/* Questions in one sample: the clock is slower than one of them. */
#define BATCH 1000
/* As in the report: long enough for whoever waits to sleep. */
#define PAUSE_US 2000

/* Where one worker stamps its times; zero until then. */
typedef struct Cell
{
	pg_atomic_uint64 first;		/* the first line of its main */
	pg_atomic_uint64 ready;		/* about to sleep on its latch */
	char		pad[48];		/* no line is shared with another worker */
} Cell;

typedef struct Area
{
	pg_atomic_uint32 next;		/* the cell for the next worker */
	char		pad[60];
	pg_atomic_uint32 beside;	/* 1 while a session is to ask beside another */
	char		pad2[60];
	Cell		cells[CELLS];
} Area;

typedef struct Running
{
	BackgroundWorkerHandle *handle;
	Cell	   *cell;
} Running;

static Area *area;
static shmem_request_hook_type earlier_request;
static shmem_startup_hook_type earlier_startup;
static volatile sig_atomic_t stop_asked;

/* The workers of hold(), for as long as the session. */
static Running *held;
static int	held_count;

void		_PG_init(void);
PGDLLEXPORT void bgwbench_idle_main(Datum cell);
PGDLLEXPORT void bgwbench_exit_main(Datum cell);

static uint64
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64) time.tv_sec * 1000000000 + time.tv_nsec;
}

/* ---- the shared area ---- */

static void
request_area(void)
{
	if (earlier_request)
		earlier_request();
	RequestAddinShmemSpace(sizeof(Area));
}

static void
take_area(void)
{
	bool		found;

	if (earlier_startup)
		earlier_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	area = ShmemInitStruct("bgwbench", sizeof(Area), &found);
	if (!found)
	{
		pg_atomic_init_u32(&area->next, 0);
		pg_atomic_init_u32(&area->beside, 0);
		for (int i = 0; i < CELLS; i++)
		{
			pg_atomic_init_u64(&area->cells[i].first, 0);
			pg_atomic_init_u64(&area->cells[i].ready, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		elog(ERROR, "bgwbench must be in shared_preload_libraries");
	earlier_request = shmem_request_hook;
	shmem_request_hook = request_area;
	earlier_startup = shmem_startup_hook;
	shmem_startup_hook = take_area;
}

/* ---- the workers ---- */

static void
on_terminate(SIGNAL_ARGS)
{
	int			kept = errno;

	stop_asked = 1;
	SetLatch(MyLatch);
	errno = kept;
}

void
bgwbench_idle_main(Datum number)
{
	uint64		first = now();
	Cell	   *cell = &area->cells[DatumGetInt32(number)];

	pg_atomic_write_u64(&cell->first, first);
	pqsignal(SIGTERM, on_terminate);
	BackgroundWorkerUnblockSignals();
	pg_atomic_write_u64(&cell->ready, now());
	while (!stop_asked)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

void
bgwbench_exit_main(Datum number)
{
}

/* ---- the measuring backend ---- */

static Running
launch(const char *function)
{
	BackgroundWorker worker = {0};
	Running		running;
	uint32		number = pg_atomic_fetch_add_u32(&area->next, 1) % CELLS;

	running.cell = &area->cells[number];
	pg_atomic_write_u64(&running.cell->first, 0);
	pg_atomic_write_u64(&running.cell->ready, 0);
	strlcpy(worker.bgw_name, "bgwbench", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "bgwbench", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "bgwbench", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	worker.bgw_main_arg = Int32GetDatum((int32) number);
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &running.handle))
		elog(ERROR, "no worker slot is free");
	return running;
}

static void
await_start(Running running)
{
	pid_t		pid;

	if (WaitForBackgroundWorkerStartup(running.handle, &pid) != BGWH_STARTED)
		elog(ERROR, "a worker did not start");
}

static void
await_ready(Running running)
{
	while (pg_atomic_read_u64(&running.cell->ready) == 0)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(50);
	}
}

static void
await_stop(Running running)
{
	if (WaitForBackgroundWorkerShutdown(running.handle) != BGWH_STOPPED)
		elog(ERROR, "a worker did not stop");
	pfree(running.handle);
}

static Running
launch_idle(void)
{
	Running		running = launch("bgwbench_idle_main");

	await_start(running);
	await_ready(running);
	return running;
}

static void
stop_idle(Running running)
{
	TerminateBackgroundWorker(running.handle);
	await_stop(running);
}

/* The mean time of one question, of many. */
static float8
ask(Running running)
{
	uint64		begin = now();
	pid_t		pid;

	for (int i = 0; i < BATCH; i++)
		if (GetBackgroundWorkerPid(running.handle, &pid) != BGWH_STARTED)
			elog(ERROR, "a worker is gone");
	return (now() - begin) / (float8) BATCH;
}

static Datum *
samples_for(int count)
{
	if (count < 1)
		elog(ERROR, "no samples are wanted");
	return palloc(sizeof(Datum) * count);
}

static Datum
as_array(Datum *samples, int count)
{
	return PointerGetDatum(construct_array(samples, count, FLOAT8OID, sizeof(float8),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* ---- the functions of functions.sql ---- */

PG_FUNCTION_INFO_V1(bgwbench_start_stop);
Datum
bgwbench_start_stop(PG_FUNCTION_ARGS)
{
	int			count = PG_GETARG_INT32(0);
	Datum	   *first = samples_for(count);
	Datum	   *started = samples_for(count);
	Datum	   *stopped = samples_for(count);
	Datum		values[3];
	bool		nulls[3] = {false, false, false};
	TupleDesc	shape;

	for (int i = 0; i < count; i++)
	{
		Running		running;
		uint64		begin = now();

		running = launch("bgwbench_idle_main");
		await_start(running);
		started[i] = Float8GetDatum((float8) (now() - begin));
		await_ready(running);
		first[i] = Float8GetDatum((float8) (pg_atomic_read_u64(&running.cell->first) - begin));
		pg_usleep(PAUSE_US);
		begin = now();
		stop_idle(running);
		stopped[i] = Float8GetDatum((float8) (now() - begin));
		pg_usleep(PAUSE_US);
	}
	if (get_call_result_type(fcinfo, NULL, &shape) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "a row is to be returned");
	values[0] = as_array(first, count);
	values[1] = as_array(started, count);
	values[2] = as_array(stopped, count);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(shape), values, nulls)));
}

/* The place of one that has ended; sleeps until there is one. The latch is set at every end. */
static int
await_any_stop(Running *running, int count)
{
	for (;;)
	{
		pid_t		pid;

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < count; i++)
			if (GetBackgroundWorkerPid(running[i].handle, &pid) == BGWH_STOPPED)
				return i;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

PG_FUNCTION_INFO_V1(bgwbench_churn);
Datum
bgwbench_churn(PG_FUNCTION_ARGS)
{
	int			workers = PG_GETARG_INT32(0);
	int			in_flight = PG_GETARG_INT32(1);
	Running    *running;
	int			count = 0;
	uint64		begin;

	if (workers < 1 || in_flight < 1)
		elog(ERROR, "no workers are wanted");
	running = palloc(sizeof(*running) * in_flight);
	begin = now();
	for (int i = 0; i < workers; i++)
	{
		if (count == in_flight)
		{
			int			ended = await_any_stop(running, count);

			pfree(running[ended].handle);
			running[ended] = running[--count];
		}
		running[count++] = launch("bgwbench_exit_main");
	}
	while (count > 0)
		await_stop(running[--count]);
	PG_RETURN_FLOAT8(workers * 1e9 / (now() - begin));
}

PG_FUNCTION_INFO_V1(bgwbench_status);
Datum
bgwbench_status(PG_FUNCTION_ARGS)
{
	int			count = PG_GETARG_INT32(0);
	bool		beside = PG_GETARG_BOOL(1);
	Datum	   *samples = samples_for(count);
	Running		running = launch_idle();

	while (beside && pg_atomic_read_u32(&area->beside) == 0)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(100);
	}
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		samples[i] = Float8GetDatum(ask(running));
	}
	pg_atomic_write_u32(&area->beside, 0);
	stop_idle(running);
	PG_RETURN_DATUM(as_array(samples, count));
}

/* For a worker of its own, since no session can have another's handle; the lock is one for all. */
PG_FUNCTION_INFO_V1(bgwbench_ask_beside);
Datum
bgwbench_ask_beside(PG_FUNCTION_ARGS)
{
	Running		running = launch_idle();

	pg_atomic_write_u32(&area->beside, 1);
	while (pg_atomic_read_u32(&area->beside) == 1)
	{
		CHECK_FOR_INTERRUPTS();
		(void) ask(running);
	}
	stop_idle(running);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(bgwbench_hold);
Datum
bgwbench_hold(PG_FUNCTION_ARGS)
{
	int			workers = PG_GETARG_INT32(0);
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	uint64		begin,
				took;

	if (held_count > 0 || workers < 1 || workers >= CELLS / 2)
		elog(ERROR, "workers are held already, or too many or none are wanted");
	held = palloc(sizeof(*held) * workers);
	begin = now();
	for (; held_count < workers; held_count++)
		held[held_count] = launch("bgwbench_idle_main");
	for (int i = 0; i < held_count; i++)
		await_start(held[i]);
	took = now() - begin;
	for (int i = 0; i < held_count; i++)
		await_ready(held[i]);
	MemoryContextSwitchTo(old);
	PG_RETURN_FLOAT8((float8) took);
}

PG_FUNCTION_INFO_V1(bgwbench_release);
Datum
bgwbench_release(PG_FUNCTION_ARGS)
{
	uint64		begin = now();
	uint64		took;

	for (int i = 0; i < held_count; i++)
		TerminateBackgroundWorker(held[i].handle);
	for (int i = 0; i < held_count; i++)
		await_stop(held[i]);
	took = now() - begin;
	if (held)
		pfree(held);
	held = NULL;
	held_count = 0;
	PG_RETURN_FLOAT8((float8) took);
}
