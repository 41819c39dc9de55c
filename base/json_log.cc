#include "base/json_log.h"

#include <glog/logging.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace assent {
namespace {

std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", absl::string_view(&c, 1));
    } else if (byte < 0x20 || byte == 0x7f) {
      absl::StrAppend(&out, absl::StrFormat("\\u%04x", byte));
    } else {
      out.push_back(c);
    }
  }
  return out + "\"";
}

class JsonSink : public google::LogSink {
 public:
  void send(google::LogSeverity severity, const char* /*full_filename*/, const char* base_filename, int line,
            const google::LogMessageTime& /*time*/, const char* message, size_t message_len) override {
    const std::string text =
        absl::StrCat("{\"time\":\"", absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::Now(), absl::UTCTimeZone()),
                     "\",\"severity\":\"", google::GetLogSeverityName(severity), "\",\"source\":\"", base_filename, ":",
                     line, "\",\"message\":", Quoted(absl::string_view(message, message_len)), "}\n");
    // One write for one line, so that lines of several threads do not mix. A log that cannot be written stops nobody.
    if (write(STDERR_FILENO, text.data(), text.size()) < 0) return;
  }
};

}  // namespace

void StartJsonLog() {
  static auto* const kSink = new JsonSink;
  FLAGS_logtostderr = false;
  FLAGS_alsologtostderr = false;
  FLAGS_stderrthreshold = google::GLOG_FATAL;
  for (int severity = 0; severity < google::NUM_SEVERITIES; ++severity)
    google::SetLogDestination(severity, "");  // No files.
  google::AddLogSink(kSink);
}

}  // namespace assent
