#include "tests/bench/window.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

namespace assent {
namespace {

// The fields of /proc/PID/stat from the third on (the second, a name in parentheses, may hold anything).
std::vector<std::string> StatOf(const std::string& pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string line;
  std::getline(file, line);
  const size_t end = line.rfind(')');
  std::vector<std::string> fields;
  if (end == std::string::npos) return fields;
  std::istringstream rest(line.substr(end + 1));
  for (std::string field; rest >> field;) fields.push_back(field);
  return fields;
}

int64_t Field(const std::vector<std::string>& fields, size_t number) {  // As proc(5) counts them.
  int64_t value = 0;
  return fields.size() > number - 3 && absl::SimpleAtoi(fields[number - 3], &value) ? value : 0;
}

double At(const std::vector<double>& sorted, double fraction) {
  return sorted[std::min(sorted.size() - 1, static_cast<size_t>(static_cast<double>(sorted.size()) * fraction))];
}

constexpr double Window::*kNumbers[] = {&Window::per_second,      &Window::p50_ms,
                                        &Window::p99_ms,          &Window::p999_ms,
                                        &Window::worker_cpu_us,   &Window::coordinator_cpu_us,
                                        &Window::database_cpu_us, &Window::coordinator_syncs,
                                        &Window::database_syncs,  &Window::calls,
                                        &Window::round_trips};

}  // namespace

void FillLatencies(std::vector<double>* milliseconds, double seconds, Window* window) {
  CHECK(!milliseconds->empty()) << "nothing was done in the time";
  std::sort(milliseconds->begin(), milliseconds->end());
  window->per_second = static_cast<double>(milliseconds->size()) / seconds;
  window->p50_ms = At(*milliseconds, 0.5);
  window->p99_ms = At(*milliseconds, 0.99);
  window->p999_ms = At(*milliseconds, 0.999);
}

double Median(std::vector<double> values) {
  CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Window MedianOf(const std::vector<Window>& windows) {
  Window median;
  for (const auto number : kNumbers) {
    std::vector<double> values;
    for (const Window& window : windows) values.push_back(window.*number);
    median.*number = Median(std::move(values));
  }
  return median;
}

absl::Duration CpuOf(pid_t pid) {
  const auto ticks_of = [](const std::vector<std::string>& stat) {
    return Field(stat, 14) + Field(stat, 15) + Field(stat, 16) + Field(stat, 17);
  };
  int64_t ticks = ticks_of(StatOf(absl::StrCat(pid)));
  DIR* const processes = opendir("/proc");  // PostgreSQL has a process for each session.
  CHECK(processes != nullptr);
  while (const dirent* const entry = readdir(processes)) {
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
    const std::vector<std::string> stat = StatOf(entry->d_name);
    if (Field(stat, 4) == pid) ticks += ticks_of(stat);
  }
  closedir(processes);
  return absl::Seconds(static_cast<double>(ticks) / static_cast<double>(sysconf(_SC_CLK_TCK)));
}

absl::Duration OwnCpu() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return absl::DurationFromTimeval(usage.ru_utime) + absl::DurationFromTimeval(usage.ru_stime);
}

int64_t ResidentBytes(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/statm"));
  int64_t size = 0;
  int64_t resident = 0;
  file >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

Samples RunWorkers(int workers, absl::Duration length, const std::function<std::function<void()>(int)>& start,
                   const std::function<void()>& begun) {
  std::atomic<int> ready{0};
  std::atomic<bool> go{false};
  std::atomic<bool> stop{false};
  std::vector<std::vector<double>> each(static_cast<size_t>(workers));
  std::vector<std::thread> threads;
  for (int i = 0; i < workers; ++i) {
    threads.emplace_back([&, i] {
      const std::function<void()> transact = start(i);
      ++ready;
      while (!go) absl::SleepFor(absl::Milliseconds(1));
      while (!stop) {
        const absl::Time begin = absl::Now();
        transact();
        each[static_cast<size_t>(i)].push_back(absl::ToDoubleMilliseconds(absl::Now() - begin));
      }
    });
  }
  while (ready < workers) absl::SleepFor(absl::Milliseconds(1));
  begun();
  const absl::Time begin = absl::Now();
  go = true;
  absl::SleepFor(length);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  Samples samples;
  samples.seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  for (const auto& own : each) samples.milliseconds.insert(samples.milliseconds.end(), own.begin(), own.end());
  return samples;
}

}  // namespace assent
