// A map in a managed_shared_memory, with one lock that readers share: what Boost.Interprocess offers to
// processes that share a table. Nothing that is thrown leaves this file.

#include <array>
#include <boost/container/vector.hpp>
#include <boost/interprocess/allocators/allocator.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/sync/interprocess_sharable_mutex.hpp>
#include <boost/interprocess/sync/scoped_lock.hpp>
#include <boost/interprocess/sync/sharable_lock.hpp>
#include <boost/unordered_map.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <new>
#include <utility>

namespace {

namespace ipc = boost::interprocess;

using Key = std::array<char, 20>;
using Manager = ipc::managed_shared_memory::segment_manager;
using Value = boost::container::vector<char, ipc::allocator<char, Manager>>;
using Pair = std::pair<const Key, Value>;

struct Hash {
    std::size_t operator()(const Key &key) const noexcept {
        std::uint64_t first, second;
        std::uint32_t third;
        std::memcpy(&first, key.data(), 8);
        std::memcpy(&second, key.data() + 8, 8);
        std::memcpy(&third, key.data() + 16, 4);
        std::uint64_t hash = (first ^ 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
        hash = (hash ^ (hash >> 32) ^ second) * 0x94d049bb133111eb;
        hash = (hash ^ (hash >> 32) ^ third) * 0xd6e8feb86659fd93;
        return hash ^ (hash >> 32);
    }
};

using Map = boost::unordered_map<Key, Value, Hash, std::equal_to<Key>, ipc::allocator<Pair, Manager>>;

struct Store {
    ipc::managed_shared_memory segment;
    ipc::interprocess_sharable_mutex *mutex;
    Map *map;
};

Key key_of(const char *bytes) {
    Key key;
    std::memcpy(key.data(), bytes, key.size());
    return key;
}

// Expects the lock to be held.
std::ptrdiff_t copy(const Store &store, const char *key, char *buffer, std::size_t room) {
    const auto found = store.map->find(key_of(key));
    if (found == store.map->end()) {
        return -1;
    }
    const auto &value = found->second;
    if (value.size() > room) {
        return -2;
    }
    std::memcpy(buffer, value.data(), value.size());
    return static_cast<std::ptrdiff_t>(value.size());
}

}  // namespace

extern "C" {

// Null if it can't be made.
Store *boost_create(const char *name, std::size_t bytes, std::size_t items) {
    try {
        ipc::shared_memory_object::remove(name);
        ipc::managed_shared_memory segment(ipc::create_only, name, bytes);
        auto *mutex = segment.construct<ipc::interprocess_sharable_mutex>("mutex")();
        auto *map = segment.construct<Map>("map")(
            items, Hash(), std::equal_to<Key>(), segment.get_allocator<Pair>());
        return new Store{std::move(segment), mutex, map};
    } catch (...) {
        return nullptr;
    }
}

Store *boost_attach(const char *name) {
    try {
        ipc::managed_shared_memory segment(ipc::open_only, name);
        auto *mutex = segment.find<ipc::interprocess_sharable_mutex>("mutex").first;
        auto *map = segment.find<Map>("map").first;
        if (mutex == nullptr || map == nullptr) {
            return nullptr;
        }
        return new Store{std::move(segment), mutex, map};
    } catch (...) {
        return nullptr;
    }
}

void boost_detach(Store *store) { delete store; }

// The length of the value, -1 if there is none, -2 if it can't be given.
std::ptrdiff_t boost_get(Store *store, const char *key, char *buffer, std::size_t room) {
    try {
        ipc::sharable_lock<ipc::interprocess_sharable_mutex> lock(*store->mutex);
        return copy(*store, key, buffer, room);
    } catch (...) {
        return -2;
    }
}

// Many keys under one lock, their values one behind the other: their bytes in all, -2 if they can't be given.
std::ptrdiff_t boost_get_many(Store *store, const char *keys, std::size_t count, char *buffer,
                              std::size_t room) {
    try {
        ipc::sharable_lock<ipc::interprocess_sharable_mutex> lock(*store->mutex);
        std::size_t bytes = 0;
        for (std::size_t number = 0; number < count; ++number) {
            const auto len =
                copy(*store, keys + number * sizeof(Key), buffer + bytes, room - bytes);
            if (len == -2) {
                return -2;
            }
            bytes += len < 0 ? 0 : static_cast<std::size_t>(len);
        }
        return static_cast<std::ptrdiff_t>(bytes);
    } catch (...) {
        return -2;
    }
}

// Whether it was put.
bool boost_put(Store *store, const char *key, const char *value, std::size_t len) {
    try {
        ipc::scoped_lock<ipc::interprocess_sharable_mutex> lock(*store->mutex);
        const auto found = store->map->find(key_of(key));
        if (found != store->map->end()) {
            found->second.assign(value, value + len);
        } else {
            const auto allocator = store->segment.get_allocator<char>();
            store->map->emplace(key_of(key), Value(value, value + len, allocator));
        }
        return true;
    } catch (...) {
        return false;
    }
}

std::size_t boost_used_bytes(const Store *store) {
    return store->segment.get_size() - store->segment.get_free_memory();
}

}  // extern "C"
