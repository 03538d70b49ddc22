# The installed masktile: the target masktile::masktile, and masktile::static for its archive.
get_filename_component(masktile_prefix "${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
find_path(masktile_include masktile.h PATHS "${masktile_prefix}/include" NO_DEFAULT_PATH)
foreach(kind shared static)
    set(name masktile)
    if(kind STREQUAL static)
        set(name "${CMAKE_STATIC_LIBRARY_PREFIX}masktile${CMAKE_STATIC_LIBRARY_SUFFIX}")
    endif()
    find_library(
        masktile_${kind}
        NAMES ${name}
        PATHS "${masktile_prefix}"
        PATH_SUFFIXES lib lib64 "lib/${CMAKE_LIBRARY_ARCHITECTURE}"
        NO_DEFAULT_PATH
    )
endforeach()

if(NOT masktile_include OR NOT masktile_shared)
    set(masktile_FOUND FALSE)
    set(masktile_NOT_FOUND_MESSAGE "no masktile.h and libmasktile under ${masktile_prefix}")
    return()
endif()

if(NOT TARGET masktile::masktile)
    add_library(masktile::masktile UNKNOWN IMPORTED)
    set_target_properties(
        masktile::masktile
        PROPERTIES IMPORTED_LOCATION "${masktile_shared}"
                   INTERFACE_INCLUDE_DIRECTORIES "${masktile_include}"
    )
endif()
if(masktile_static AND NOT TARGET masktile::static)
    find_package(Threads REQUIRED)
    add_library(masktile::static STATIC IMPORTED)
    set_target_properties(
        masktile::static
        PROPERTIES IMPORTED_LOCATION "${masktile_static}"
                   INTERFACE_INCLUDE_DIRECTORIES "${masktile_include}"
                   INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};m;gcc_s"
    )
endif()
