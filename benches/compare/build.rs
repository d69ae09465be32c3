//! Builds what is compared against in C++, if this machine has its headers.

use std::path::Path;

const SOURCE: &str = "src/engines/boost.cpp";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(boost)");
    println!("cargo::rerun-if-changed={SOURCE}");
    let header = "boost/interprocess/managed_shared_memory.hpp";
    let places = ["/usr/include", "/usr/local/include"];
    for place in places {
        println!("cargo::rerun-if-changed={place}/boost/version.hpp");
    }
    if !places.iter().any(|place| Path::new(place).join(header).exists()) {
        println!("cargo::warning=no Boost headers: Boost.Interprocess is left out");
        return;
    }
    let built = cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .define("NDEBUG", None)
        .warnings(false)
        .file(SOURCE)
        .try_compile("compare_boost");
    match built {
        Ok(()) => println!("cargo::rustc-cfg=boost"),
        Err(error) => println!("cargo::warning=Boost.Interprocess is left out: {error}"),
    }
}
