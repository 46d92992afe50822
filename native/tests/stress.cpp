// Many calls of the handler's inside from several threads at once, under sanitizers: random shapes, operands at odd
// addresses, results against loops in double precision. Exits with 1 if anything is wrong.
//
// oneDNN's kernels are machine code made as the process runs, which no sanitizer sees. So each buffer lies between
// words that must not change, and at times against a page that nobody may touch: reading beyond it ends the process.

#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <deque>
#include <random>
#include <thread>

#include "../jaxdd_onednn/convolution.cpp"

// What is freed is to be handed out again, so that resident memory says what is held.
extern "C" const char* __asan_default_options() { return "quarantine_size_mb=1:thread_local_quarantine_size_kb=16"; }

namespace {

constexpr int kShapes = 300, kCalls = 10000, kWarm = 2000, kCallers = 3, kMostThreads = 4;
constexpr int64_t kMostProducts = 3'000'000, kGuards = 256;
constexpr double kExact = 1e-5, kBfloat16 = 2e-2;  // largest error over largest magnitude
constexpr int64_t kMostGrowth = 8 << 20;           // bytes
constexpr uint32_t kGuard = 0xdeadbeef;

std::atomic<int64_t> failures{0};

void Fail(const Problem& p, int64_t networks, const std::string& what) {
  if (++failures > 20) return;
  std::string text;
  for (const int64_t field : p) text += std::to_string(field) + " ";
  std::fprintf(stderr, "FAILED: %s; problem %snetworks %ld\n", what.c_str(), text.c_str(), static_cast<long>(networks));
}

// Threads that take work in order, and so come late while there is much of it.
class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Serve(); });
  }

  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    more_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  void Schedule(std::function<void()> work) {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(work));
    }
    more_.notify_one();
  }

  Helpers For(int64_t threads) {
    return {threads, [this](std::function<void()> work) { Schedule(std::move(work)); }};
  }

 private:
  void Serve() {
    for (;;) {
      std::unique_lock lock(mutex_);
      more_.wait(lock, [&] { return closed_ || !queue_.empty(); });
      if (queue_.empty()) return;
      const auto work = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      work();
    }
  }

  std::mutex mutex_;
  std::condition_variable more_;
  std::deque<std::function<void()>> queue_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

// A buffer of floats between guards, between two pages that nobody may touch.
class Guarded {
 public:
  explicit Guarded(int64_t most) {
    const int64_t page = sysconf(_SC_PAGESIZE);
    words_ = (Ceil((most + 2 * kGuards) * 4, page)) * page / 4;
    mapped_ = words_ * 4 + 2 * page;
    auto* all = static_cast<char*>(
        mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (all == MAP_FAILED || mprotect(all + page, words_ * 4, PROT_READ | PROT_WRITE)) std::abort();
    base_ = all;
    first_ = reinterpret_cast<uint32_t*>(all + page);
  }
  Guarded(const Guarded&) = delete;
  ~Guarded() { munmap(base_, mapped_); }

  // `place` 0: up to the end of the last page; else so many words behind the start of the first.
  float* Place(int64_t size, int place) {
    size_ = size;
    start_ = place == 0 ? words_ - size : place;
    for (int64_t i = std::max<int64_t>(0, start_ - kGuards); i < start_; ++i) first_[i] = kGuard;
    for (int64_t i = start_ + size; i < std::min(words_, start_ + size + kGuards); ++i) first_[i] = kGuard;
    return reinterpret_cast<float*>(first_) + start_;
  }

  bool Intact() const {
    for (int64_t i = std::max<int64_t>(0, start_ - kGuards); i < start_; ++i)
      if (first_[i] != kGuard) return false;
    for (int64_t i = start_ + size_; i < std::min(words_, start_ + size_ + kGuards); ++i)
      if (first_[i] != kGuard) return false;
    return true;
  }

 private:
  char* base_;
  uint32_t* first_;
  int64_t words_, mapped_, size_ = 0, start_ = 0;
};

struct Case {
  Problem problem;
  int64_t networks;
  std::vector<float> a, b;
  std::vector<double> expected;
  double largest = 0;
};

// The definition of all three operations: every product of an image's, the kernel's and a map's element.
__attribute__((no_sanitize("address", "undefined", "thread"))) void Loops(const Problem& p, int64_t networks,
                                                                           const float* a, const float* b,
                                                                           double* result) {
  const int64_t ci = p[kC] / p[kGroups], co = p[kO] / p[kGroups];
  for (int64_t at = 0; at < networks * p[kN] * p[kMapH] * p[kMapW]; ++at)
    for (int64_t ky = 0; ky < p[kKernelH]; ++ky)
      for (int64_t kx = 0; kx < p[kKernelW]; ++kx) {
        const int64_t n = at / p[kMapH] / p[kMapW];
        const int64_t y = at / p[kMapW] % p[kMapH] * p[kStrideH] + ky * p[kDilationH] - p[kTop];
        const int64_t x = at % p[kMapW] * p[kStrideW] + kx * p[kDilationW] - p[kLeft];
        if (y < 0 || y >= p[kH] || x < 0 || x >= p[kW]) continue;
        for (int64_t g = 0; g < p[kGroups]; ++g)
          for (int64_t c = 0; c < ci; ++c)
            for (int64_t o = 0; o < co; ++o) {
              const int64_t i = ((n * p[kH] + y) * p[kW] + x) * p[kC] + g * ci + c;
              const int64_t k = (((n / p[kN] * p[kKernelH] + ky) * p[kKernelW] + kx) * ci + c) * p[kO] + g * co + o;
              const int64_t m = at * p[kO] + g * co + o;
              switch (p[kOp]) {
                case kConv:
                  result[m] += static_cast<double>(a[i]) * b[k];
                  break;
                case kInputGrad:
                  result[i] += static_cast<double>(a[m]) * b[k];
                  break;
                default:
                  result[k] += static_cast<double>(a[i]) * b[m];
              }
            }
      }
}

int64_t Maps(int64_t size, int64_t before, int64_t after, int64_t kernel, int64_t dilation, int64_t stride) {
  const int64_t room = size + before + after - (kernel - 1) * dilation;
  return room > 0 ? (room - 1) / stride + 1 : 0;
}

// Random, but for the first few: what they reach is said beside them.
Problem RandomProblem(int index, std::mt19937_64& random, int64_t* networks) {
  const auto between = [&](int64_t low, int64_t high) { return std::uniform_int_distribution(low, high)(random); };
  for (;;) {
    Problem p{};
    const int64_t groups = between(0, 2) ? 1 : between(2, 6);
    p[kOp] = index % kOperations;
    p[kBf16] = between(0, 3) == 0;
    *networks = between(0, 1) ? 1 : between(2, 5);
    p[kN] = between(1, 12);
    p[kH] = between(1, 24), p[kW] = between(1, 24);
    p[kGroups] = groups;
    p[kC] = groups * between(1, between(0, 1) ? 4 : 40), p[kO] = groups * between(1, between(0, 1) ? 4 : 40);
    p[kKernelH] = between(1, 7), p[kKernelW] = between(0, 1) ? p[kKernelH] : between(1, 7);
    p[kStrideH] = between(1, 3), p[kStrideW] = between(1, 3);
    p[kDilationH] = between(1, 2), p[kDilationW] = between(1, 2);
    for (const Field side : {kTop, kBottom, kLeft, kRight}) p[side] = between(0, 4);
    if (index < 12) {
      *networks = index % 2 + 1;
      p[kStrideH] = p[kStrideW] = p[kDilationH] = p[kDilationW] = p[kGroups] = 1;
      p[kH] = p[kW] = 31;
      if (index < 6) {  // blocks of a weight gradient; input gradients of few channels
        p[kN] = 20, p[kC] = 2 + index, p[kO] = 49 - index, p[kKernelH] = p[kKernelW] = 2, p[kBf16] = index % 2;
      } else {  // blocks of images in bfloat16
        p[kN] = 37, p[kC] = p[kO] = 17, p[kKernelH] = p[kKernelW] = 1, p[kBf16] = 1;
      }
    }
    p[kMapH] = Maps(p[kH], p[kTop], p[kBottom], p[kKernelH], p[kDilationH], p[kStrideH]);
    p[kMapW] = Maps(p[kW], p[kLeft], p[kRight], p[kKernelW], p[kDilationW], p[kStrideW]);
    p[kBf16] = p[kBf16] && MultipliesBfloat16();
    const int64_t products =
        *networks * p[kN] * p[kMapH] * p[kMapW] * p[kKernelH] * p[kKernelW] * p[kC] / groups * p[kO];
    if (index < 12 || (products > 0 && products <= kMostProducts)) return p;
  }
}

Case RandomCase(int index, std::mt19937_64& random) {
  Case made;
  const Problem p = made.problem = RandomProblem(index, random, &made.networks);
  const std::array<int64_t, 3> sizes{made.networks * p[kN] * p[kH] * p[kW] * p[kC],
                                     made.networks * p[kKernelH] * p[kKernelW] * p[kC] / p[kGroups] * p[kO],
                                     made.networks * p[kN] * p[kMapH] * p[kMapW] * p[kO]};
  constexpr int kRoles[kOperations][3] = {{0, 1, 2}, {2, 1, 0}, {0, 2, 1}};
  std::uniform_real_distribution<float> uniform(-1, 1);
  made.a.resize(sizes[kRoles[p[kOp]][0]]);
  made.b.resize(sizes[kRoles[p[kOp]][1]]);
  made.expected.resize(sizes[kRoles[p[kOp]][2]]);
  for (float& value : made.a) value = uniform(random);
  for (float& value : made.b) value = uniform(random);
  Loops(p, made.networks, made.a.data(), made.b.data(), made.expected.data());
  for (const double value : made.expected) made.largest = std::max(made.largest, std::abs(value));
  return made;
}

struct Buffers {
  Guarded a, b, result;
};

double Check(const Case& c, const Helpers& helpers, Buffers& buffers, std::mt19937_64& random) {
  const auto place = [&] { return std::max(0, std::uniform_int_distribution(-7, 15)(random)); };
  float* a = buffers.a.Place(c.a.size(), place());
  float* b = buffers.b.Place(c.b.size(), place());
  float* result = buffers.result.Place(c.expected.size(), place());
  std::memcpy(a, c.a.data(), c.a.size() * sizeof(float));
  std::memcpy(b, c.b.data(), c.b.size() * sizeof(float));
  std::fill_n(result, c.expected.size(), NAN);
  try {
    Convolve(c.problem, c.networks, a, b, result, helpers);
  } catch (const std::exception& error) {
    Fail(c.problem, c.networks, error.what());
    return 0;
  }
  if (!buffers.a.Intact() || !buffers.b.Intact() || !buffers.result.Intact())
    Fail(c.problem, c.networks, "written outside of a buffer");
  if (std::memcmp(a, c.a.data(), c.a.size() * sizeof(float)) || std::memcmp(b, c.b.data(), c.b.size() * sizeof(float)))
    Fail(c.problem, c.networks, "an operand was written to");
  double error = 0;
  for (size_t i = 0; i < c.expected.size(); ++i) {
    const double off = std::abs(result[i] - c.expected[i]);
    error = std::isnan(off) ? INFINITY : std::max(error, off);
  }
  if (c.largest > 0) error /= c.largest;  // else all is padding, and the result zero
  if (!(error <= (c.problem[kBf16] ? kBfloat16 : kExact)))
    Fail(c.problem, c.networks,
         "error " + std::to_string(error) + " with " + std::to_string(helpers.threads) + " threads");
  return error;
}

int64_t ResidentBytes() {
  long pages = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr || std::fscanf(file, "%*d %ld", &pages) != 1) std::abort();
  std::fclose(file);
  return pages * sysconf(_SC_PAGESIZE);
}

void Expect(bool held, const char* what) {
  if (!held) Fail({}, 0, what);
}

// Tasks that throw, pools that refuse, helpers that come when all is over.
void CheckForEach(Pool& pool) {
  for (int threads = 1; threads <= kMostThreads; ++threads)
    for (int round = 0; round < 50; ++round) {
      std::atomic<int> begun{0};
      try {
        ForEach(20, pool.For(threads), [&](int64_t i) {
          ++begun;
          if (i % 7 == 3) throw std::runtime_error("task");
        });
        Expect(false, "a task's exception was lost");
      } catch (const std::runtime_error& error) {
        Expect(std::string(error.what()) == "task", "another exception than the task's");
      }
      Expect(begun == (threads == 1 ? 4 : 20), "tasks were left out or done twice");
    }
  std::atomic<int> done{0};
  ForEach(20, {4, [](const std::function<void()>&) { throw std::bad_alloc(); }}, [&](int64_t) { ++done; });
  Expect(done == 20, "a pool that refuses changes what is done");
  std::vector<std::function<void()>> late;
  ForEach(20, {4, [&](std::function<void()> work) { late.push_back(std::move(work)); }}, [&](int64_t) { ++done; });
  for (const auto& work : late) work();
  Expect(late.size() == 3 && done == 40, "helpers that come late do something");
  omp_set_num_threads(3);
  ForEach(2, pool.For(2), [](int64_t) { Expect(omp_get_max_threads() == 1, "oneDNN may use threads of its own"); });
  Expect(omp_get_max_threads() == 3, "the caller's OpenMP setting is not restored");
}

// A plan that oneDNN refuses, here for maps of a size that does not follow from the rest.
void CheckRefusal(Pool& pool) {
  const std::vector<float> zeros(1000);
  std::vector<float> result(1000);
  for (int64_t operation = 0; operation < kOperations; ++operation)
    for (int threads = 1; threads <= kMostThreads; ++threads) try {
        const Problem p{operation, 0, 4, 5, 5, 2, 5, 5, 2, 3, 3, 1, 1, 1, 1, 1, 0, 0, 0, 0};
        Convolve(p, 1, zeros.data(), zeros.data(), result.data(), pool.For(threads));
        Expect(false, "oneDNN's refusal was lost");
      } catch (const dnnl::error& error) {
        Expect(error.status == dnnl_invalid_arguments || error.status == dnnl_unimplemented, "another error");
      }
}

int Main() {
  std::mt19937_64 random(1);
  std::vector<Case> cases;
  size_t most = 0;
  for (int i = 0; i < kShapes; ++i) {
    cases.push_back(RandomCase(i, random));
    most = std::max({most, cases.back().a.size(), cases.back().b.size(), cases.back().expected.size()});
  }
  Pool pool(kMostThreads - 1);
  CheckForEach(pool);
  CheckRefusal(pool);
  std::atomic<int> next{0};
  std::atomic<double> exact{0}, bfloat16{0};
  const auto call_until = [&](int end) {  // by new threads, so that some end, too
    std::vector<std::thread> callers;
    for (int caller = 0; caller < kCallers; ++caller)
      callers.emplace_back([&, end, seed = random()] {
        std::mt19937_64 own(seed);
        Buffers buffers{Guarded(most), Guarded(most), Guarded(most)};
        for (int i; (i = next.fetch_add(1)) < end;) {
          const Case& c = cases[i % kShapes];
          const double error = Check(c, pool.For(1 + i / kShapes % kMostThreads), buffers, own);
          auto& worst = c.problem[kBf16] ? bfloat16 : exact;
          for (double seen = worst; error > seen && !worst.compare_exchange_weak(seen, error);) {
          }
        }
      });
    for (auto& caller : callers) caller.join();
    next = end;
  };
  call_until(kWarm);
  const int64_t warm = ResidentBytes();
  for (int end = kWarm + 1000; end <= kCalls; end += 1000) call_until(end);
  const int64_t growth = ResidentBytes() - warm;
  Expect(growth < kMostGrowth, "memory grows");
  std::printf("%d calls, %d shapes: %ld failures, error %.1e in float32 and %.1e in bfloat16, memory grew by %ld KiB, "
              "%.0f s of CPU\n",
              kCalls, kShapes, static_cast<long>(failures), exact.load(), bfloat16.load(),
              static_cast<long>(growth / 1024), static_cast<double>(std::clock()) / CLOCKS_PER_SEC);
  return failures ? 1 : 0;
}

}  // namespace

int main() { return Main(); }
