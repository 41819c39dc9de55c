#include "tests/bench/report.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace assent {
namespace {

// "one_process" of "one process", as names of figures have it.
std::string Key(Contender contender) { return absl::StrReplaceAll(NameOf(contender), {{", ", "_"}, {" ", "_"}}); }

}  // namespace

std::string TableHead(const std::string& base) {
  const std::string of = absl::StrCat("of ", base);
  return absl::StrCat("| contender         | workers |   tx/s | ", of, " | p50 ms | ", of, " | p99 ms | ", of,
                      " | p99.9 ms | CPU us/tx: workers | assentd | databases | forced writes/tx: assentd | databases "
                      "| calls/tx | round trips/tx |\n"
                      "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
}

std::string TableRow(const Row& row) {
  const Window& w = row.window;
  return absl::StrFormat(
      "| %-17s | %7d | %6.0f | %6.2f | %6.2f | %6.2f | %6.2f | %6.2f | %8.2f | %18.0f | %7.0f | %9.0f | %25.2f | %9.2f "
      "| "
      "%8.2f | %14.2f |\n",
      NameOf(row.contender), row.workers, w.per_second, row.ratio, w.p50_ms, row.p50_ratio, w.p99_ms, row.p99_ratio,
      w.p999_ms, w.worker_cpu_us, w.coordinator_cpu_us, w.database_cpu_us, w.coordinator_syncs, w.database_syncs,
      w.calls, w.round_trips);
}

void AddFigures(const std::vector<Row>& rows, const std::string& prefix, Figures* figures) {
  for (const Row& row : rows) {
    if (row.contender == Contender::kRaw || row.contender == Contender::kOneLocal) continue;
    (*figures)[absl::StrCat(prefix, Key(row.contender), "_", row.workers)] = row.ratio;
    if (row.contender != Contender::kOneProcess) continue;
    (*figures)[absl::StrCat(prefix, "p50_ratio_", row.workers)] = row.p50_ratio;
    (*figures)[absl::StrCat(prefix, "p99_ratio_", row.workers)] = row.p99_ratio;
    (*figures)[absl::StrCat(prefix, "forced_writes_per_commit_", row.workers)] = row.window.coordinator_syncs;
  }
}

absl::Status WriteJson(const Figures& figures, const std::string& path) {
  google::protobuf::Struct json;
  for (const auto& figure : figures) (*json.mutable_fields())[figure.first].set_number_value(figure.second);
  std::string text;
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  const auto status = google::protobuf::util::MessageToJsonString(json, &text, options);
  std::ofstream file(path);
  file << text;
  file.close();
  return status.ok() && file ? absl::OkStatus() : absl::InternalError(absl::StrCat("cannot write ", path));
}

absl::StatusOr<Figures> ReadJson(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  google::protobuf::Struct json;
  if (!file || !google::protobuf::util::JsonStringToMessage(text.str(), &json).ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " cannot be read, or is not what --json has written"));
  }
  Figures figures;
  for (const auto& field : json.fields()) figures[field.first] = field.second.number_value();
  return figures;
}

std::string Compare(const Figures& now, const Figures& then) {
  std::string text;
  for (const auto& figure : now) {
    const auto it = then.find(figure.first);
    if (it == then.end()) continue;
    absl::StrAppendFormat(&text, "%-32s %12.3f, was %12.3f: %.2f\n", figure.first, figure.second, it->second,
                          it->second == 0 ? 0 : figure.second / it->second);
  }
  return text;
}

std::string Svg(const std::vector<Row>& rows, const std::string& title) {
  constexpr int kLine = 22, kLeft = 220, kWidth = 400;
  const int height = 60 + kLine * static_cast<int>(rows.size());
  std::string svg = absl::StrFormat(
      "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' font-family='sans-serif' font-size='12'>\n"
      "<text x='10' y='20' font-size='14'>%s</text>\n",
      kLeft + 2 * kWidth, height, title);
  int y = 40;
  for (const Row& row : rows) {
    const int width = static_cast<int>(kWidth * std::min(row.ratio, 1.8));
    absl::StrAppendFormat(&svg,
                          "<text x='10' y='%d'>%s, %d workers</text><rect x='%d' y='%d' width='%d' height='16' "
                          "fill='%s'/><text x='%d' y='%d'>%.2f (%.0f/s)</text>\n",
                          y + 13, NameOf(row.contender), row.workers, kLeft, y, width,
                          row.contender == Contender::kRaw ? "#999" : "#36c", kLeft + width + 6, y + 13, row.ratio,
                          row.window.per_second);
    y += kLine;
  }
  return svg + "</svg>\n";
}

}  // namespace assent
