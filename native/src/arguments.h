#pragma once

#include <napi.h>

#include <cstdint>
#include <string>

namespace tsnet {

/** Each reads one argument or property and throws a TypeError that names it. */
Napi::Object requireObject(Napi::Value value, const char* name);
Napi::Function requireFunction(Napi::Value value, const char* name);
std::string requireString(Napi::Value value, const char* name);
uint32_t requireInteger(Napi::Value value, const char* name, uint32_t least, uint32_t most);
bool optionalBoolean(Napi::Value value, const char* name, bool absent);
uint32_t optionalInteger(Napi::Value value, const char* name, uint32_t least, uint32_t most, uint32_t absent);

/** Bytes of the caller's array, valid until JavaScript runs again. */
struct Bytes {
  const uint8_t* start;
  size_t length;
};

/** A Uint8Array that is a chain of whole netlink messages; the kernel drops anything else without a word. */
Bytes requireDatagram(Napi::Value value, const char* name);

}  // namespace tsnet
