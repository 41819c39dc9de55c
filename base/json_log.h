// JSON logs: one object per line on stderr instead of glog's text.
#ifndef ASSENT_BASE_JSON_LOG_H_
#define ASSENT_BASE_JSON_LOG_H_

namespace assent {

// From now on glog prints {"time":…,"severity":…,"source":…,"message":…} to stderr, and nothing else. For good.
void StartJsonLog();

}  // namespace assent

#endif  // ASSENT_BASE_JSON_LOG_H_
