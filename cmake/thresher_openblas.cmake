# Defines thresher::openblas if Debian's serial OpenBLAS is there. Read by the build and, through the
# installed package, by programs that link the static library.
#
# The serial build starts no threads; its static archive keeps it apart from any BLAS the program
# itself has loaded. Its table of work buffers is not safe to use from many threads (0.3.21 drops the
# lock before it looks for a free one), so the two functions that use the table are wrapped:
# host/backend/blas_openblas.cpp holds a lock around them.
if(NOT TARGET thresher::openblas)
  find_library(THRESHER_OPENBLAS_LIBRARY NAMES libopenblas.a
    PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial NO_DEFAULT_PATH
    DOC "Static library of the serial OpenBLAS")
  if(THRESHER_OPENBLAS_LIBRARY)
    # A wheel must not need gfortran's run time on the machine it is installed on.
    set(fortran gfortran)
    if(THRESHER_PYTHON)
      set(fortran "-Wl,-Bstatic;gfortran;quadmath;-Wl,-Bdynamic")
    endif()
    add_library(thresher::openblas STATIC IMPORTED GLOBAL)
    set_target_properties(thresher::openblas PROPERTIES
      IMPORTED_LOCATION "${THRESHER_OPENBLAS_LIBRARY}"
      INTERFACE_LINK_LIBRARIES
      "-Wl,--wrap=blas_memory_alloc;-Wl,--wrap=blas_memory_free;${fortran};m")
  endif()
endif()
