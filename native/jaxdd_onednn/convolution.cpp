// The three operations of a two-dimensional convolution, by oneDNN, as one XLA FFI handler for CPUs.
//
// Arrays are float32, row-major, with an axis of independent networks in front:
//   images (networks, n, h, w, c), kernels (networks, kh, kw, c / groups, o), maps (networks, n, h', w', o).
//
// Threads are XLA's. A call is cut into pieces (a network, a range of its images); the thread that XLA calls works
// through them, and threads of XLA's pool that are idle take some off it. Nobody waits for a piece that nobody has
// begun, so that calls from many threads at once cannot block each other. oneDNN itself runs each piece on the thread
// that asks for it: no OpenMP team is ever started, and none competes with XLA's pool.

#include <omp.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <oneapi/dnnl/dnnl.hpp>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using dnnl::memory;
using Tag = memory::format_tag;
using Type = memory::data_type;

enum Operation : int64_t { kConv, kInputGrad, kWeightGrad, kOperations };

constexpr double kSmall = 4e6;            // floating point operations that are not worth waking a second thread
constexpr int64_t kBlockBytes = 1 << 20;  // of a piece in bfloat16, so that it is still in cache when it is read
constexpr int64_t kTerms = 1 << 14;       // of a weight gradient's sum over pixels that oneDNN adds up at once

// What a primitive depends on. An array, so that it is a key.
enum Field { kOp, kBf16, kN, kH, kW, kC, kMapH, kMapW, kO, kKernelH, kKernelW, kGroups, kStrideH, kStrideW, kDilationH,
             kDilationW, kTop, kBottom, kLeft, kRight, kFields };
using Problem = std::array<int64_t, kFields>;

// oneDNN takes the number of threads it may use from the calling thread's OpenMP setting, also to plan its work.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  int before_;
};

const dnnl::engine& Engine() {
  static const auto* engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);  // never destroyed: threads may outlive it
  return *engine;
}

// Memory that a thread keeps between calls.
class Scratch {
 public:
  ~Scratch() { std::free(data_); }

  char* Get(size_t bytes) {
    if (bytes > size_) {
      std::free(data_);
      data_ = nullptr;
      size_ = 0;
      const size_t rounded = (bytes + 63) / 64 * 64;
      data_ = static_cast<char*>(std::aligned_alloc(64, rounded));
      if (data_ == nullptr) throw std::bad_alloc();
      size_ = rounded;
    }
    return data_;
  }

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

struct Thread {
  dnnl::stream stream{Engine()};
  Scratch kernels;          // of all networks of the call that this thread answers
  Scratch kernel_of_piece;  // one in oneDNN's layout
  Scratch kernel_of_block;  // one to be added to another
  Scratch pieces;           // operands in bfloat16, and oneDNN's own
};

Thread& ThisThread() {
  thread_local Thread thread;
  return thread;
}

size_t Aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

void Execute(const dnnl::primitive& primitive, std::initializer_list<std::pair<int, memory>> arguments) {
  std::array<dnnl_exec_arg_t, 4> raw;
  size_t count = 0;
  for (const auto& [name, argument] : arguments) raw[count++] = {name, argument.get()};
  dnnl::error::wrap_c_api(dnnl_primitive_execute(primitive.get(), ThisThread().stream.get(), count, raw.data()),
                          "oneDNN could not execute a primitive");
}

memory At(const memory::desc& desc, const void* data) { return {desc, Engine(), const_cast<void*>(data)}; }

// A primitive for a piece of a convolution, with what brings operands to the layouts it wants.
class Plan {
 public:
  explicit Plan(const Problem& p) : operation_(static_cast<Operation>(p[kOp])) {
    const OneThread one_thread;
    const auto storage = [&](Operation result) { return p[kBf16] && p[kOp] != result ? Type::bf16 : Type::f32; };
    const memory::dims image_dims{p[kN], p[kC], p[kH], p[kW]}, map_dims{p[kN], p[kO], p[kMapH], p[kMapW]};
    const memory::dims kernel_dims =
        p[kGroups] == 1 ? memory::dims{p[kO], p[kC], p[kKernelH], p[kKernelW]}
                        : memory::dims{p[kGroups], p[kO] / p[kGroups], p[kC] / p[kGroups], p[kKernelH], p[kKernelW]};
    const Tag plain = p[kGroups] == 1 ? Tag::hwio : Tag::hwigo;
    // With few input channels the kernels of oneDNN that have their own layout are three times slower than its plain
    // matrix product for input gradients.
    const bool product = p[kOp] == kInputGrad && p[kC] / p[kGroups] < 8 && p[kO] / p[kGroups] >= 32 && !p[kBf16];
    const memory::desc images(image_dims, storage(kInputGrad), Tag::nhwc);
    const memory::desc maps(map_dims, storage(kConv), Tag::nhwc);
    const memory::desc kernel(kernel_dims, storage(kWeightGrad), product ? plain : Tag::any);
    const memory::dims strides{p[kStrideH], p[kStrideW]}, dilation{p[kDilationH] - 1, p[kDilationW] - 1};
    const memory::dims before{p[kTop], p[kLeft]}, after{p[kBottom], p[kRight]};
    constexpr auto direct = dnnl::algorithm::convolution_direct;
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);

    // The gradients' descriptors want that of the forward pass, as a hint.
    const auto typed = [&](const memory::desc& desc, Type type, Tag tag) {
      return memory::desc(desc.get_dims(), type, tag);
    };
    const Type inputs = p[kBf16] ? Type::bf16 : Type::f32;
    const auto forward = [&](Type result) {
      return dnnl::convolution_forward::primitive_desc(
          Engine(), dnnl::prop_kind::forward_training, direct, typed(images, inputs, Tag::nhwc),
          typed(kernel, inputs, Tag::any), typed(maps, result, Tag::nhwc), strides, dilation, before, after,
          attributes);
    };
    if (operation_ == kConv) {
      const auto desc = forward(Type::f32);
      primitive_ = dnnl::convolution_forward(desc);
      kernel_ = desc.weights_desc();
      scratchpad_ = desc.scratchpad_desc();
    } else if (operation_ == kInputGrad) {
      const dnnl::convolution_backward_data::primitive_desc desc(Engine(), direct, images, kernel, maps, strides,
                                                                 dilation, before, after, forward(inputs), attributes);
      primitive_ = dnnl::convolution_backward_data(desc);
      kernel_ = desc.weights_desc();
      scratchpad_ = desc.scratchpad_desc();
    } else {
      const dnnl::convolution_backward_weights::primitive_desc desc(
          Engine(), direct, images, kernel, maps, strides, dilation, before, after, forward(inputs), attributes);
      primitive_ = dnnl::convolution_backward_weights(desc);
      kernel_ = desc.diff_weights_desc();
      scratchpad_ = desc.scratchpad_desc();
    }
    images_ = images;
    maps_ = maps;
    plain_kernel_ = memory::desc(kernel_dims, Type::f32, plain);
    const auto cast = [](const memory::desc& from, const memory::desc& to) {
      return from == to ? dnnl::reorder() : dnnl::reorder({Engine(), from, Engine(), to});
    };
    plain_images_ = typed(images, Type::f32, Tag::nhwc);
    plain_maps_ = typed(maps, Type::f32, Tag::nhwc);
    images_cast_ = cast(plain_images_, images_);
    maps_cast_ = cast(plain_maps_, maps_);
    kernel_cast_ =
        operation_ == kWeightGrad ? cast(kernel_, plain_kernel_) : cast(plain_kernel_, kernel_);
  }

  size_t kernel_bytes() const { return Aligned(kernel_.get_size()); }
  bool casts_kernel() const { return static_cast<bool>(kernel_cast_); }
  bool SameKernelAs(const Plan& other) const { return kernel_ == other.kernel_; }

  // From the plain layout into the primitive's, or back if it is the result.
  void CastKernel(const void* from, void* to) const {
    const bool result = operation_ == kWeightGrad;
    Execute(kernel_cast_, {{DNNL_ARG_FROM, At(result ? kernel_ : plain_kernel_, from)},
                           {DNNL_ARG_TO, At(result ? plain_kernel_ : kernel_, to)}});
  }

  // Operands and result are those of the operation; the kernel among them in the primitive's layout.
  void Run(const void* a, const void* b, void* result) const {
    const size_t images_bytes = images_cast_ ? Aligned(images_.get_size()) : 0;
    const size_t maps_bytes = maps_cast_ ? Aligned(maps_.get_size()) : 0;
    char* scratch = ThisThread().pieces.Get(images_bytes + maps_bytes + Aligned(scratchpad_.get_size()));
    const auto images = [&](const void* data) {
      if (!images_cast_) return At(images_, data);
      auto cast = At(images_, scratch);
      Execute(images_cast_, {{DNNL_ARG_FROM, At(plain_images_, data)}, {DNNL_ARG_TO, cast}});
      return cast;
    };
    const auto maps = [&](const void* data) {
      if (!maps_cast_) return At(maps_, data);
      auto cast = At(maps_, scratch + images_bytes);
      Execute(maps_cast_, {{DNNL_ARG_FROM, At(plain_maps_, data)}, {DNNL_ARG_TO, cast}});
      return cast;
    };
    const std::pair<int, memory> pad{DNNL_ARG_SCRATCHPAD, At(scratchpad_, scratch + images_bytes + maps_bytes)};
    switch (operation_) {
      case kConv:
        return Execute(primitive_, {{DNNL_ARG_SRC, images(a)},
                                    {DNNL_ARG_WEIGHTS, At(kernel_, b)},
                                    {DNNL_ARG_DST, At(maps_, result)},
                                    pad});
      case kInputGrad:
        return Execute(primitive_, {{DNNL_ARG_DIFF_DST, maps(a)},
                                    {DNNL_ARG_WEIGHTS, At(kernel_, b)},
                                    {DNNL_ARG_DIFF_SRC, At(images_, result)},
                                    pad});
      default:
        return Execute(primitive_, {{DNNL_ARG_SRC, images(a)},
                                    {DNNL_ARG_DIFF_DST, maps(b)},
                                    {DNNL_ARG_DIFF_WEIGHTS, At(kernel_, result)},
                                    pad});
    }
  }

 private:
  Operation operation_;
  dnnl::primitive primitive_;
  memory::desc images_, maps_, kernel_, plain_images_, plain_maps_, plain_kernel_, scratchpad_;
  dnnl::primitive images_cast_, maps_cast_, kernel_cast_;
};

// Plans are kept for as long as the process lives: a program has as many as it has shapes of convolutions.
const Plan& PlanFor(const Problem& problem) {
  static auto* mutex = new std::shared_mutex;
  static auto* plans = new std::map<Problem, std::unique_ptr<Plan>>;
  {
    const std::shared_lock lock(*mutex);
    const auto found = plans->find(problem);
    if (found != plans->end()) return *found->second;
  }
  auto made = std::make_unique<Plan>(problem);
  const std::unique_lock lock(*mutex);
  return *plans->try_emplace(problem, std::move(made)).first->second;
}

// Threads that may be asked for help with a call: those of the pool, or fewer by the user's wish.
using Schedule = std::function<void(std::function<void()>)>;
struct Helpers {
  int64_t threads;
  Schedule schedule;
};

// A number of tasks, in any order, by the caller and whoever helps. Throws what the first task to fail threw.
void ForEach(int64_t tasks, const Helpers& helpers, const std::function<void(int64_t)>& task) {
  struct Job {
    std::function<void(int64_t)> task;
    int64_t tasks;
    std::atomic<int64_t> next{0};
    std::mutex mutex;
    std::condition_variable all_done;
    int64_t done = 0;
    std::exception_ptr failure;

    void Work() {
      const OneThread one_thread;
      for (int64_t i; (i = next.fetch_add(1)) < tasks;) {
        std::exception_ptr thrown;
        try {
          task(i);
        } catch (...) {
          thrown = std::current_exception();
        }
        const std::lock_guard lock(mutex);
        if (thrown && !failure) failure = thrown;
        if (++done == tasks) all_done.notify_all();
      }
    }
  };
  const int64_t others = std::min(helpers.threads, tasks) - 1;
  if (others < 1) {
    const OneThread one_thread;
    for (int64_t i = 0; i < tasks; ++i) task(i);
    return;
  }
  // Shared, since a helper may come when all is done and the caller gone.
  const auto job = std::make_shared<Job>();
  job->task = task;
  job->tasks = tasks;
  try {
    for (int64_t i = 0; i < others; ++i) helpers.schedule([job] { job->Work(); });
  } catch (...) {  // then with fewer
  }
  job->Work();
  std::unique_lock lock(job->mutex);
  job->all_done.wait(lock, [&] { return job->done == tasks; });
  if (job->failure) std::rethrow_exception(job->failure);
}

// Part `i` of `n` images in `parts` parts as equal as possible: the first, and how many.
std::pair<int64_t, int64_t> Part(int64_t n, int64_t parts, int64_t i) {
  return {i * (n / parts) + std::min(i, n % parts), n / parts + (i < n % parts)};
}

int64_t Ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }

// All images of all networks.
void Convolve(const Problem& problem, int64_t networks, const float* a, const float* b, float* result,
              Helpers helpers) {
  const auto operation = static_cast<Operation>(problem[kOp]);
  const int64_t n = problem[kN], pixels = problem[kMapH] * problem[kMapW];
  const int64_t image = problem[kH] * problem[kW] * problem[kC], map = pixels * problem[kO];
  const int64_t kernel = problem[kKernelH] * problem[kKernelW] * problem[kC] / problem[kGroups] * problem[kO];
  if (2.0 * networks * n * kernel * pixels < kSmall) helpers.threads = 1;
  const auto plan_for = [&](int64_t images) -> const Plan& {
    Problem part = problem;
    part[kN] = images;
    return PlanFor(part);
  };
  // So many of each network that every thread has equally many.
  int64_t pieces = std::min(n, helpers.threads / std::gcd(helpers.threads, networks));

  if (operation != kWeightGrad) {
    const int64_t in = operation == kConv ? image : map, out = operation == kConv ? map : image;
    if (problem[kBf16]) pieces = std::min(n, std::max(pieces, Ceil(2 * n * in, kBlockBytes)));
    // A network's kernel is brought to oneDNN's layout once, not once for each piece.
    const Plan& first = plan_for(Part(n, pieces, 0).second);
    const size_t bytes = first.kernel_bytes();
    char* kernels = first.casts_kernel() ? ThisThread().kernels.Get(networks * bytes) : nullptr;
    if (first.casts_kernel())
      ForEach(networks, helpers, [&](int64_t i) { first.CastKernel(b + i * kernel, kernels + i * bytes); });
    ForEach(networks * pieces, helpers, [&](int64_t i) {
      const int64_t network = i / pieces;
      const auto [start, images] = Part(n, pieces, i % pieces);
      const Plan& plan = plan_for(images);
      const void* ours = b + network * kernel;
      if (plan.SameKernelAs(first)) {
        if (plan.casts_kernel()) ours = kernels + network * bytes;
      } else if (plan.casts_kernel()) {
        void* cast = ThisThread().kernel_of_piece.Get(plan.kernel_bytes());
        plan.CastKernel(ours, cast);
        ours = cast;
      }
      plan.Run(a + (network * n + start) * in, ours, result + (network * n + start) * out);
    });
    return;
  }

  // A network's first piece writes to the result, the others beside it. All sums have a fixed order, so that they do
  // not depend on who was faster; and few terms each, which costs little and keeps float32 exact to 1e-6 or so.
  const auto add = [&](float* sum, const float* part) {
    for (int64_t i = 0; i < kernel; ++i) sum[i] += part[i];
  };
  auto* rest = reinterpret_cast<float*>(ThisThread().kernels.Get(networks * (pieces - 1) * kernel * sizeof(float)));
  const auto target = [&](int64_t network, int64_t piece) {
    return piece == 0 ? result + network * kernel : rest + (network * (pieces - 1) + piece - 1) * kernel;
  };
  ForEach(networks * pieces, helpers, [&](int64_t i) {
    const int64_t network = i / pieces, piece = i % pieces;
    const auto [start, images] = Part(n, pieces, piece);
    const int64_t blocks = std::min(images, Ceil(images * pixels, kTerms));
    float* sum = target(network, piece);
    for (int64_t block = 0; block < blocks; ++block) {
      const auto [offset, size] = Part(images, blocks, block);
      const Plan& plan = plan_for(size);
      const int64_t at = network * n + start + offset;
      float* plain = sum;
      if (block) plain = reinterpret_cast<float*>(ThisThread().kernel_of_block.Get(kernel * sizeof(float)));
      void* layout = plain;
      if (plan.casts_kernel()) layout = ThisThread().kernel_of_piece.Get(plan.kernel_bytes());
      plan.Run(a + at * image, b + at * map, layout);
      if (plan.casts_kernel()) plan.CastKernel(layout, plain);
      if (block) add(sum, plain);
    }
  });
  if (pieces == 1) return;
  ForEach(networks, helpers, [&](int64_t network) {
    for (int64_t piece = 1; piece < pieces; ++piece) add(result + network * kernel, target(network, piece));
  });
}

// Whether bfloat16 gains anything: without instructions for it oneDNN refuses it, or takes longer than for float32.
bool MultipliesBfloat16() {
  static const bool multiplies = [] {
    const int isa = static_cast<int>(dnnl::get_effective_cpu_isa());  // a set of bits, in which newer ones have more
    constexpr int needed = static_cast<int>(dnnl::cpu_isa::avx512_core_bf16);
    return (isa & needed) == needed;
  }();
  return multiplies;
}

// The most threads of a call, by OpenMP's own variable; 0 if it is not set.
int64_t WishedThreads() {
  static const int64_t wished = [] {
    const char* variable = std::getenv("OMP_NUM_THREADS");
    return variable ? std::max<int64_t>(0, std::strtoll(variable, nullptr, 10)) : 0;
  }();
  return wished;
}

// `geometry`: strides, dilation, padding (top, bottom, left, right), groups.
ffi::Error Handle(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> a, ffi::Buffer<ffi::F32> b,
                  ffi::ResultBuffer<ffi::F32> result, int64_t operation, bool bfloat16,
                  ffi::Span<const int64_t> geometry) {
  if (operation < 0 || operation >= kOperations || geometry.size() != 9)
    return ffi::Error::InvalidArgument("jaxdd_onednn: unknown operation or geometry; reinstall it from this jaxdd.");
  const std::array<ffi::Span<const int64_t>, 3> shapes{a.dimensions(), b.dimensions(), result->dimensions()};
  // Which of operands and result are the images, the kernel and the maps.
  static constexpr int kRoles[kOperations][3] = {{0, 1, 2}, {2, 1, 0}, {0, 2, 1}};
  const auto images = shapes[kRoles[operation][0]], kernel = shapes[kRoles[operation][1]],
             maps = shapes[kRoles[operation][2]];
  if (images.size() != 5 || kernel.size() != 5 || maps.size() != 5)
    return ffi::Error::InvalidArgument("jaxdd_onednn: operands must have 5 axes.");
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  for (const auto& sizes : {images, kernel, maps, geometry})
    if (std::any_of(sizes.begin(), sizes.end(), [](int64_t size) { return size > kMost; }))
      return ffi::Error::InvalidArgument("jaxdd_onednn: a size is 2^31 or more.");
  // oneDNN counts the bytes of a row or column, padding and all, in 32 bits.
  const int64_t longest = kMost / sizeof(float) / std::max<int64_t>({1, images[4], maps[4]});
  const int64_t groups = geometry[8];
  const auto fits = [&](int axis, int stride, int dilation, int low) {
    if (std::min(geometry[stride], geometry[dilation]) < 1) return false;
    if (std::min(geometry[low], geometry[low + 1]) < 0) return false;
    const int64_t padded = images[axis + 1] + geometry[low] + geometry[low + 1];
    const int64_t room = padded - (kernel[axis] - 1) * geometry[dilation];
    return padded <= longest && room > 0 && maps[axis + 1] == (room - 1) / geometry[stride] + 1;
  };
  if (groups < 1 || images[0] != kernel[0] || images[0] != maps[0] || images[1] != maps[1] ||
      images[4] != kernel[3] * groups || kernel[4] != maps[4] || kernel[4] % groups || !fits(1, 0, 2, 4) ||
      !fits(2, 1, 3, 6))
    return ffi::Error::InvalidArgument(
        "jaxdd_onednn: shapes of images, kernel and maps do not fit each other, or are too large.");
  if (result->element_count() == 0 || a.element_count() == 0 || b.element_count() == 0)
    return ffi::Error::InvalidArgument("jaxdd_onednn: empty operands.");
  const Problem problem{operation,   bfloat16 && MultipliesBfloat16(),
                        images[1],   images[2],
                        images[3],   images[4],
                        maps[2],     maps[3],
                        maps[4],     kernel[1],
                        kernel[2],   groups,
                        geometry[0], geometry[1],
                        geometry[2], geometry[3],
                        geometry[4], geometry[5],
                        geometry[6], geometry[7]};
  const int64_t threads = std::max<int64_t>(1, pool.num_threads());
  const Helpers helpers{WishedThreads() ? std::min(threads, WishedThreads()) : threads,
                        [&](std::function<void()> work) { pool.Schedule(std::move(work)); }};
  try {
    Convolve(problem, images[0], a.typed_data(), b.typed_data(), result->typed_data(), helpers);
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "jaxdd_onednn: out of memory.");
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("jaxdd_onednn: ") + error.what() + ".");
  }
  return ffi::Error::Success();
}

}  // namespace

// Beside it all is compiled to be hidden, so that no other library's copy of these headers mixes with this one.
extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* jaxdd_onednn_convolution(XLA_FFI_CallFrame*);

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdd_onednn_convolution, Handle,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("operation")
                                  .Attr<bool>("bfloat16")
                                  .Attr<ffi::Span<const int64_t>>("geometry"));
