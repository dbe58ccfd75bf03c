// SPDX-License-Identifier: GPL-2.0-only
// Device memory outlives its process: a holder that knows nothing of CUDA has its descriptor, the
// owner dies by SIGKILL, and the next process finds what the owner wrote.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "cuda/memory.h"
#include "kit.cuh"

constexpr uint64_t kBytes = (64ull << 20) + 12345;  // not what a device allocates in

using kit::Ok;

static uint64_t seed;

static void Must(bool good) {
  if (good) return;
  printf("Bail out! errno %d, CUDA: %s\n", errno, cudaGetErrorString(cudaGetLastError()));
  exit(1);
}

static uint64_t Mix(uint64_t z) {
  z = (z + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static void SendFd(int socket, int fd) {
  char byte = 0, room[CMSG_SPACE(sizeof(int))] = {};
  struct iovec iov = {&byte, 1};
  struct msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = room;
  msg.msg_controllen = sizeof(room);
  struct cmsghdr* c = CMSG_FIRSTHDR(&msg);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(c), &fd, sizeof(fd));
  Must(sendmsg(socket, &msg, 0) == 1);
}

static int ReceiveFd(int socket) {
  char byte, room[CMSG_SPACE(sizeof(int))];
  struct iovec iov = {&byte, 1};
  struct msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = room;
  msg.msg_controllen = sizeof(room);
  int fd = -1;
  if (recvmsg(socket, &msg, 0) != 1) return -1;
  struct cmsghdr* c = CMSG_FIRSTHDR(&msg);
  if (c && c->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(c), sizeof(fd));
  return fd;
}

static std::vector<uint64_t> Contents() {
  std::vector<uint64_t> v(kBytes / 8);
  for (size_t i = 0; i < v.size(); i++) v[i] = Mix(seed + i);
  return v;
}

static bool Holds(const void* device, const std::vector<uint64_t>& want) {
  std::vector<uint64_t> got(want.size(), ~0ull);
  return cudaMemcpy(got.data(), device, got.size() * 8, cudaMemcpyDefault) == cudaSuccess &&
         got == want;
}

// Runs in a process of its own, until it is killed.
static void Own(int socket) {
  struct pkvrt_gpu_memory* m;
  Must(pkvrt_gpu_memory_create(&m, 0, kBytes) == 0);
  std::vector<uint64_t> v = Contents();
  Must(cudaMemcpy(pkvrt_gpu_memory_base(m), v.data(), v.size() * 8, cudaMemcpyDefault) ==
       cudaSuccess);
  int fd = pkvrt_gpu_memory_export(m);
  Must(fd >= 0);
  SendFd(socket, fd);
  for (;;) pause();
}

// Before this process knows of CUDA: what it forks may then use it.
static int OwnerDies() {
  int sockets[2], status;
  Must(!socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
  pid_t owner = fork();
  Must(owner >= 0);
  if (!owner) {
    close(sockets[0]);
    Own(sockets[1]);
  }
  close(sockets[1]);
  int fd = ReceiveFd(sockets[0]);
  Must(fd >= 0);
  kill(owner, SIGKILL);
  Must(waitpid(owner, &status, 0) == owner && WIFSIGNALED(status));
  return fd;
}

// The next server, a process of its own too; the holder keeps the memory through its end.
static bool NextServerFindsIt(int fd) {
  int status;
  pid_t pid = fork();
  Must(pid >= 0);
  if (!pid) {
    struct pkvrt_gpu_memory* m;
    if (pkvrt_gpu_memory_map(&m, 0, kBytes, fd)) _exit(2);
    bool good = Holds(pkvrt_gpu_memory_base(m), Contents());
    pkvrt_gpu_memory_destroy(m);
    _exit(good ? 0 : 3);
  }
  Must(waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) && !WEXITSTATUS(status);
}

static bool HasDeviceInChild() {
  int status;
  pid_t pid = fork();
  if (!pid) {
    int nr = 0;
    _exit(cudaGetDeviceCount(&nr) == cudaSuccess && nr > 0 ? 0 : 1);
  }
  return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status);
}

static void TestOneProcess() {
  struct pkvrt_gpu_memory *m, *again;
  std::vector<uint64_t> v = Contents(), zeros(v.size());
  size_t before, after, total;

  Must(cudaMemGetInfo(&before, &total) == cudaSuccess);
  Must(pkvrt_gpu_memory_create(&m, 0, kBytes) == 0);
  char* base = static_cast<char*>(pkvrt_gpu_memory_base(m));
  Ok(pkvrt_gpu_memory_bytes(m) >= kBytes && pkvrt_gpu_memory_bytes(m) % (2 << 20) == 0,
     "memory is rounded up to what a device allocates");
  Ok(Holds(base, zeros), "new memory is zeros");
  int fd = pkvrt_gpu_memory_export(m);
  Ok(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC), "its descriptor is closed on execve");
  Ok(pkvrt_gpu_memory_map(&again, 0, kBytes, fd) == 0 && pkvrt_gpu_memory_base(again) != base,
     "it can be mapped twice");
  Must(cudaMemcpy(base, v.data(), v.size() * 8, cudaMemcpyDefault) == cudaSuccess);
  Ok(Holds(pkvrt_gpu_memory_base(again), v), "both mappings show the same");
  pkvrt_gpu_memory_destroy(m);
  Ok(Holds(pkvrt_gpu_memory_base(again), v), "the second outlives the first");
  pkvrt_gpu_memory_destroy(again);
  Must(pkvrt_gpu_memory_map(&m, 0, kBytes, fd) == 0);
  Ok(Holds(pkvrt_gpu_memory_base(m), v), "a descriptor alone keeps the memory");
  pkvrt_gpu_memory_destroy(m);
  close(fd);
  Must(cudaMemGetInfo(&after, &total) == cudaSuccess);
  // The context itself may have taken some.
  Ok(after + (32 << 20) > before, "with the last of them it is free again");
}

static void TestRefusals() {
  struct pkvrt_gpu_memory* m;
  int null = open("/dev/null", O_RDWR);

  Ok(pkvrt_gpu_memory_create(&m, 0, 0) == -EINVAL && !m, "no bytes are refused");
  Ok(pkvrt_gpu_memory_create(&m, -1, kBytes) == -EINVAL, "a negative device is refused");
  Ok(pkvrt_gpu_memory_create(&m, 4096, kBytes) == -ENODEV, "a device that is not there");
  Ok(pkvrt_gpu_memory_create(&m, 0, 1ull << 50) == -ENOMEM, "more than there is: ENOMEM");
  Ok(pkvrt_gpu_memory_map(&m, 0, kBytes, -1) == -EINVAL && !m, "no descriptor is refused");
  Ok(pkvrt_gpu_memory_map(&m, 0, kBytes, null) < 0 && !m, "another file is refused");
  Must(pkvrt_gpu_memory_create(&m, 0, 2 << 20) == 0);
  int fd = pkvrt_gpu_memory_export(m);
  struct pkvrt_gpu_memory* more;
  Ok(pkvrt_gpu_memory_map(&more, 0, 8 << 20, fd) < 0 && !more, "more than it has is refused");
  pkvrt_gpu_memory_destroy(m);
  pkvrt_gpu_memory_destroy(nullptr);
  close(fd);
  close(null);
}

int main() {
  if (!HasDeviceInChild()) {
    printf("1..0 # SKIP no GPU\n");
    return 0;
  }
  random_start();
  seed = random_bits();
  int fd = OwnerDies();
  Ok(NextServerFindsIt(fd), "memory outlives the SIGKILL of its owner");
  Ok(NextServerFindsIt(fd), "and the end of the next server");
  close(fd);
  TestOneProcess();
  TestRefusals();
  return kit::Done();
}
