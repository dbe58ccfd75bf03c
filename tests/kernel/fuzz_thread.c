// SPDX-License-Identifier: GPL-2.0-only
/*
 * What lets a thread of the fuzzer's go on while its allocations fail, and
 * tells of it when it dies. The kernel reads and writes a thread's memory not
 * in calls alone: it puts a signal's frame on the stack, and after a switch the
 * processor's number into the area of restartable sequences, beside the
 * thread's data. After a fork() the first such write copies the page; when that
 * allocation is the one to fail, all that the kernel can do is to end the
 * thread by SIGSEGV. So threads leave that area, and have a stack for signals
 * that fork() does not touch.
 */
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "fuzz.h"

#define STACK_BYTES	(64UL << 10)

static __thread struct actor *self;

static void tell(const char *text, int len)
{
	if (len > 0 && write(STDOUT_FILENO, text, (size_t)len) < 0)
		_exit(2);
}

/* /proc/self/maps, as remarks of TAP. */
static void tell_maps(void)
{
	static char text[65536];
	size_t len = 0;
	ssize_t n;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && len < sizeof(text) - 1 &&
	       (n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char remark[320];

		tell(remark, snprintf(remark, sizeof(remark), "# %.300s\n", line));
	}
}

/* Where and why; then it dies of the signal, with all of its process. */
static void on_death(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *at = context;
	char text[320];

	signal(sig, SIG_DFL);
	tell(text, snprintf(text, sizeof(text),
			    "# %s%s, in %s (allocation to fail: %u): signal %d, code %d%s, "
			    "address %p, at %#llx\n",
			    self->world->is_child ? "a child's " : "",
			    self->is_helper ? "helper" : "main thread", kind_name(self->kind),
			    self->nth, sig, info->si_code,
			    info->si_code == SI_KERNEL ? " (the kernel's own)" : "", info->si_addr,
			    (unsigned long long)at->uc_mcontext.gregs[REG_RIP]));
	set_fail_nth(self, 0);
	tell_maps();
	raise(sig);
}

/* The C library registers the area for each thread, unless it is told at its start not to. */
void leave_rseq(char **argv)
{
	static const char *const name = "GLIBC_TUNABLES", *const off = "glibc.pthread.rseq=0";
	const char *now = getenv(name);

	if (now && !strcmp(now, off))
		return;
	if (setenv(name, off, 1) || execv("/proc/self/exe", argv))
		perror("fuzz: /proc/self/exe");
}

void begin_thread(struct actor *a)
{
	static const int deaths[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP };
	struct sigaction act = { .sa_sigaction = on_death, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t stack = { .ss_size = STACK_BYTES };

	self = a;
	stack.ss_sp = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (stack.ss_sp == MAP_FAILED || madvise(stack.ss_sp, STACK_BYTES, MADV_DONTFORK) ||
	    sigaltstack(&stack, NULL))
		abort();
	for (size_t i = 0; i < sizeof(deaths) / sizeof(deaths[0]); i++)
		sigaction(deaths[i], &act, NULL);
	a->fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
}

/* ---------------------------------------------------------- is it so, then? */

struct victim {
	struct actor actor;
	pthread_t thread;
	enum { BEGINS, WAITS, ENDS } state;
};

/* It makes no call and writes nothing, not even to its stack, once it waits. */
static void *wait_for_end(void *arg)
{
	struct victim *v = arg;

	begin_thread(&v->actor);
	__atomic_store_n(&v->state, WAITS, __ATOMIC_RELEASE);
	while (__atomic_load_n(&v->state, __ATOMIC_ACQUIRE) == WAITS)
		__builtin_ia32_pause();
	return NULL;
}

static void on_signal(int sig)
{
	(void)sig;
}

/* Moved from processor to processor and sent signals, just after a fork(), it has to live. */
static void hurt(struct victim *v)
{
	cpu_set_t cpus;
	pid_t child;

	/* Until the fork() it needs no memory. */
	set_fail_nth(&v->actor, 1);
	/* The C library's fork() would write to the victim's data, in the child. */
	child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
	}
	for (int i = 0; i < 40; i++) {
		CPU_ZERO(&cpus);
		CPU_SET(i % 2, &cpus);
		pthread_setaffinity_np(v->thread, sizeof(cpus), &cpus);
		if (i > 20)
			pthread_kill(v->thread, SIGUSR1);
		usleep(1000);
	}
	end_child(&child);
}

bool thread_bears_failures(void)
{
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
	struct world world = { 0 };
	struct victim v = { .actor.world = &world };
	pid_t pid = fork();
	int status;

	if (pid) {
		waitpid(pid, &status, 0);
		return !status;
	}
	sigaction(SIGUSR1, &act, NULL);
	if (pthread_create(&v.thread, NULL, wait_for_end, &v))
		abort();
	while (__atomic_load_n(&v.state, __ATOMIC_ACQUIRE) == BEGINS)
		sched_yield();
	hurt(&v);
	__atomic_store_n(&v.state, ENDS, __ATOMIC_RELEASE);
	pthread_join(v.thread, NULL);
	exit(0);
}
