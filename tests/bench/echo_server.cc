// A bare gRPC server with callbacks, as assentd has it, that only echoes.
//
//   echo_server PORT_FILE    listens on a free port of 127.0.0.1 and writes it there; ends with its parent
#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <fstream>

#include "tests/bench/echo.grpc.pb.h"

namespace {

class EchoService : public assent::bench::Echo::CallbackService {
  grpc::ServerUnaryReactor* Call(grpc::CallbackServerContext* context, const assent::bench::EchoRequest* request,
                                 assent::bench::EchoResponse* response) override {
    response->set_payload(std::string(static_cast<size_t>(request->response_size()), 'x'));
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  EchoService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  const std::string path = argv[1];
  std::ofstream(path + ".new") << port << "\n";
  if (std::rename((path + ".new").c_str(), path.c_str()) != 0) return 1;
  server->Wait();
  return 0;
}
