include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/thresher)

install(TARGETS thresher EXPORT thresherTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS thresher_static EXPORT thresherStaticTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
# Apart, so that a package of the core needs no CUDA: cmake --install BUILD --component cuda
if(TARGET thresher_cuda)
  install(TARGETS thresher_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    COMPONENT cuda NAMELINK_SKIP)
endif()
if(TARGET thresher_command)
  install(TARGETS thresher_command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

install(DIRECTORY host/include/thresher DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.hpp")
install(FILES ${PROJECT_BINARY_DIR}/host/include/thresher/version.hpp
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/thresher)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# Two export sets: a program that links the shared library needs no OpenBLAS on its machine.
install(EXPORT thresherTargets NAMESPACE thresher:: DESTINATION ${package_dir})
install(EXPORT thresherStaticTargets NAMESPACE thresher:: DESTINATION ${package_dir})
configure_package_config_file(cmake/thresherConfig.cmake.in
  ${PROJECT_BINARY_DIR}/thresherConfig.cmake INSTALL_DESTINATION ${package_dir})
# Before 1.0 a new minor version may break programs; SOVERSION says the same.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/thresherConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/thresherConfig.cmake
  ${PROJECT_BINARY_DIR}/thresherConfigVersion.cmake cmake/thresher_openblas.cmake
  DESTINATION ${package_dir})

# The prefix is given relative to the file, so that the tree may be moved (cmake --install --prefix).
file(RELATIVE_PATH THRESHER_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" THRESHER_PC_PREFIX "${THRESHER_PC_PREFIX}")
set(THRESHER_PC_PRIVATE "-ldl -pthread")
if(THRESHER_OPENBLAS)
  string(CONCAT THRESHER_PC_PRIVATE "-Wl,--wrap=blas_memory_alloc -Wl,--wrap=blas_memory_free "
    "${THRESHER_OPENBLAS_LIBRARY} -lgfortran -lquadmath -lm -ldl -pthread")
endif()
configure_file(cmake/thresher.pc.in ${PROJECT_BINARY_DIR}/thresher.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/thresher.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
