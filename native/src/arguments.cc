#include "arguments.h"

#include <linux/netlink.h>

#include <cmath>
#include <cstring>

namespace tsnet {

namespace {

[[noreturn]] void throwType(Napi::Value value, const char* name, const std::string& expected) {
  throw Napi::TypeError::New(value.Env(), std::string(name) + " must be " + expected);
}

bool isMessageChain(const uint8_t* start, size_t length) {
  size_t offset = 0;
  while (length - offset >= NLMSG_HDRLEN) {
    uint32_t size;
    memcpy(&size, start + offset, sizeof size);
    if (size < NLMSG_HDRLEN || size > length - offset) return false;
    const size_t aligned = (static_cast<size_t>(size) + NLMSG_ALIGNTO - 1) & ~static_cast<size_t>(NLMSG_ALIGNTO - 1);
    if (aligned >= length - offset) return true;
    offset += aligned;
  }
  return false;
}

}  // namespace

Napi::Object requireObject(Napi::Value value, const char* name) {
  if (!value.IsObject() || value.IsFunction()) throwType(value, name, "an object");
  return value.As<Napi::Object>();
}

Napi::Function requireFunction(Napi::Value value, const char* name) {
  if (!value.IsFunction()) throwType(value, name, "a function");
  return value.As<Napi::Function>();
}

std::string requireString(Napi::Value value, const char* name) {
  if (!value.IsString()) throwType(value, name, "a string");
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.empty() || text.find('\0') != std::string::npos) {
    throwType(value, name, "a string, not empty and without NUL");
  }
  return text;
}

uint32_t requireInteger(Napi::Value value, const char* name, uint32_t least, uint32_t most) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(number >= least && number <= most) || std::floor(number) != number) {
    throwType(value, name, "an integer from " + std::to_string(least) + " to " + std::to_string(most));
  }
  return static_cast<uint32_t>(number);
}

bool optionalBoolean(Napi::Value value, const char* name, bool absent) {
  if (value.IsUndefined()) return absent;
  if (!value.IsBoolean()) throwType(value, name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

uint32_t optionalInteger(Napi::Value value, const char* name, uint32_t least, uint32_t most, uint32_t absent) {
  return value.IsUndefined() ? absent : requireInteger(value, name, least, most);
}

Bytes requireDatagram(Napi::Value value, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    throwType(value, name, "a Uint8Array");
  }
  const auto array = value.As<Napi::Uint8Array>();
  const Bytes bytes{array.Data(), array.ByteLength()};
  if (bytes.start == nullptr || !isMessageChain(bytes.start, bytes.length)) {
    throwType(value, name, "a chain of whole netlink messages");
  }
  return bytes;
}

}  // namespace tsnet
